"""The one family of exceptions of this package.

Every message says what was expected, what came, and, where there is one, which file to look at.
"""


class HpsedError(Exception):
    """Base of every error raised on purpose by ``hpsed_lib``."""


class ParameterError(HpsedError, ValueError):
    """An argument, or a key of a parameter file, is unknown, of the wrong type or out of range."""


class DataError(HpsedError):
    """A recording, a label file or a folder of them is missing, damaged or inconsistent."""


class ExecutionError(HpsedError):
    """A notebook could not be started, or one of its cells failed."""
