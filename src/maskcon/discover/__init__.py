"""Fine groups inside coarse classes: what people came for.

    tree        which pictures of a coarse class join first, and how each merge looks
    sameness    how likely the two sides of a merge are different kinds
    questions   what a person is asked, and the groups that follow from the answers
    answers     answers as a table that people and programs write
    teaching    what answers and names say of pairs of pictures, for training
    spectral    a coarse class as rows in which its groups lie apart, for a number that is given
    kmeans      groups of such rows, some of which may be named already
    number      how many groups a coarse class has, and how sure that is
    groups      the groups of every coarse class: members, confidence, typical and outlier ones
    known       a few fine labels that people have: matched, and left out to measure with
    identity    numbers and names that groups keep when pictures are added
    outliers    pictures that belong to no group, or seem to carry a wrong coarse label
    placing     new pictures among groups that are there
    naming      what the groups are called
    judging     groups beside the fine classes, where these are known
    place       the folder: groups.csv, summary.json, pictures
    questionnaire  the parts of the page about trees and questions
    sheet       one page to look at and to name the groups on
    spreadsheet tables that people write

`discover(features, coarse)` and `Questions` know arrays alone: they need no file and no network.
"""

from maskcon.discover.groups import Division, discover
from maskcon.discover.questions import Answer, Question, Questions

__all__ = ["Answer", "Division", "Question", "Questions", "discover"]
