"""Fine groups inside coarse classes: what people came for.

    spectral    a coarse class as rows in which its groups lie apart
    kmeans      groups of such rows, some of which may be named already
    number      how many groups a coarse class has, and how sure that is
    groups      the groups of every coarse class: members, confidence, typical and outlier ones
    known       a few fine labels that people have: matched, and left out to measure with
    naming      what the groups are called
    judging     groups beside the fine classes, where these are known
    place       the folder: groups.csv, summary.json, pictures
    sheet       one page to look at and to name the groups on
    spreadsheet tables that people write

The first four know arrays alone: `discover(features, coarse)` needs no file and no network.
"""

from maskcon.discover.groups import Division, discover

__all__ = ["Division", "discover"]
