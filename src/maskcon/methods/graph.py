"""Connected components of the graph that joins every row to its nearest other row."""

import torch
from torch import Tensor


@torch.no_grad()
def nearest_components(z: Tensor) -> Tensor:
    """Weak labels: rows that nearest-neighbour links connect have the same number.

    Every row has one link, to its nearest other row (cosine), so following the links leads
    from every row of a component into the one cycle that the component has, and the smallest
    row of that cycle names the component. Both are found by pointer jumping: after k rounds a
    row knows where 2^k links lead and the smallest row on the way. Nothing leaves the device,
    and the operations depend on N alone. Every component has at least two rows.

    Args:
        z: rows of unit length [N, D], two or more.

    Returns:
        int64 [N], in 0..N-1, equal where rows are connected. Reference: WCL (Zheng et al.,
        ICCV 2021).
    """
    n = len(z)
    with torch.autocast(z.device.type, enabled=False):
        similarity = z.float() @ z.float().T  # [N, N]
    similarity.fill_diagonal_(-torch.inf)
    jump = similarity.argmax(1)  # where 2^k links lead from each row [N]
    smallest = torch.minimum(torch.arange(n, device=z.device), jump)  # of the rows on the way
    for _ in range((n - 1).bit_length()):
        smallest = torch.minimum(smallest, smallest[jump])
        jump = jump[jump]
    return smallest[jump]  # jump is on the cycle by now, and N links go around it once or more
