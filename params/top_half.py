"""A pooling function that is not the library's: `smoke` trains with it, and notebook 08 shows how it is made."""

from torch import Tensor


def top_half(frame_prob: Tensor) -> Tensor:
    """Weights of linear softmax over the frames that are above the clip's mean: ``w_i = x_i`` there, else 0."""
    is_above = frame_prob > frame_prob.mean(dim=1, keepdim=True)
    return frame_prob * is_above
