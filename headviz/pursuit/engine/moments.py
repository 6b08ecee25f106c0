"""Second moments of head signals: count, mean and scatter, added up as samples stream in.

All that the energy rule and a total variance need of the samples is zᵀz, a d_head × d_head matrix
a head: its size does not depend on how many samples there were, and parts that were read apart (in
batches, runs or on several machines) merge exactly (Chan, Golub and LeVeque 1983). Knows nothing
of models.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from headviz.base.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of the samples of some heads. Float64, so that merging loses nothing."""

    count: int
    """Samples."""
    mean: Float[Tensor, "head d_head"]
    scatter: Float[Tensor, "head d_head d_head"]
    """Σ over samples of (z − mean)(z − mean)ᵀ."""

    @classmethod
    def of(cls, z: Float[Tensor, "head sample d_head"]) -> "Moments":
        """The moments of these samples."""
        exact = z.double()
        mean = exact.mean(1) if z.shape[1] else exact.new_zeros(z.shape[0], z.shape[2])
        about_mean = exact - mean[:, None]
        return cls(z.shape[1], mean, about_mean.mT @ about_mean)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of samples together, as if they had been read at once."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        between = apart[:, :, None] * apart[:, None, :] * (self.count * other.count / count)
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.scatter + other.scatter + between,
        )

    def about(self, centre: bool) -> Float[Tensor, "head d_head d_head"]:
        """Σ zᵀz about the mean if `centre`, else about zero."""
        if centre:
            return self.scatter
        return self.scatter + self.count * self.mean[:, :, None] * self.mean[:, None, :]


def merge_all(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together; there must be one."""
    return reduce(Moments.merge, parts)
