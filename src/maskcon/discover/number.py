"""How many groups a coarse class has, and how sure that is."""

from dataclasses import dataclass
from typing import Literal

FEWEST = 10  # images; the groups of fewer cannot be told without answers
CLEAR = 0.9  # probability from which a person would see different kinds
HOW = Literal["estimated", "answered", "given", "known", "too few images"]


@dataclass(frozen=True)
class Number:
    """A number of groups.

    Attributes:
        number: of groups.
        low, high: what coarser and finer groups would be (`GRANULARITY`).
        different: how likely the two most alike groups are different kinds; None where there
            is one group, or nothing was estimated.
        how: it was estimated, or with answers of a person, or given, or as many names are
            known; or there are too few images to tell.
    """

    number: int
    low: int
    high: int
    different: float | None
    how: HOW

    @property
    def structure(self) -> str:
        """In a word, what the groups are.

        Vectors cannot tell kinds from visits, lots of pictures taken together. So "clear" is
        said only where a person has answered; before that it is "kinds or visits". "none" is one
        group, and "uncertain" means that answers leave the most alike groups in doubt.
        """
        if self.how not in ("estimated", "answered"):
            return self.how
        if self.different is None:
            return "none"
        if self.how == "estimated":
            return "kinds or visits"
        return "clear" if self.different >= CLEAR else "uncertain"
