"""A project with all that its page needs: groups, pictures, vectors, map, and what goes on."""

from pathlib import Path

from maskcon.app.arrivals import taken_in
from maskcon.app.edits import Edits
from maskcon.app.ground import ground_of, map_of, written
from maskcon.app.live import Live
from maskcon.app.project import EDITS, Facts, Generation
from maskcon.app.state import Ground
from maskcon.app.thumbnails import Photos
from maskcon.data.pictures import Pictures
from maskcon.data.table import ALL
from maskcon.runtime import files
from maskcon.runtime.progress import Progress
from maskcon.search import file as index_file
from maskcon.search.index import Index


class Workplace:
    """A project that is open.

    Args:
        folder: of the project.
        facts: what project.json says.
        progress: told how it goes.
        pictures: of the data as they are now, as far as they can be seen; of those that are
            files, the index knows where they are.
        read_only: nothing is written.

    Attributes:
        folder: of the project.
        facts: what project.json says.
        index: of the pictures.
        live: the groups.
        photos: the pictures, by their rows.
        map: where they lie on the map, float32 [N, 2] in little-endian bytes.
    """

    def __init__(
        self,
        folder: Path,
        facts: Facts,
        progress: Progress,
        pictures: Pictures | None = None,
        *,
        read_only: bool = False,
    ):
        self.folder, self.facts = folder, facts
        here = Generation(folder, facts.generation)
        self.index = opened(here, progress)
        edits = Edits(folder / EDITS, read_only=read_only)
        ground = ground_of(
            self.index, here.number, here.ground, progress, edits.classes(), read_only=read_only
        )
        self.live = Live(ground, edits, read_only=read_only)
        self.live.arrange(ground.moves)  # where the process was ended before it had
        if len(ground) < len(self.index):
            ground = taken_in(self.live.state, self.index, progress)
            if not read_only:
                files.write(here.ground, written(ground))
            late = len(ground) - len(self.live.state.ground)
            far = sum(len(move["pictures"]) for move in ground.moves if "made" in move)
            progress.note(
                f"{late:,} pictures came later: {late - far:,} lie in the groups that they are "
                f"near, {far:,} are far from all and make new ones"
            )
            self.live = Live(ground, edits, read_only=read_only)
            self.live.arrange(ground.moves)
        self.map = map_of(self.index, here.map, progress, read_only=read_only)
        self.photos = Photos(self.index, pictures)

    @property
    def here(self) -> Generation:
        """The generation that counts."""
        return Generation(self.folder, self.facts.generation)

    @property
    def labelled(self) -> bool:
        """Whether the pictures came with coarse labels."""
        return {*self.index.rows["coarse"].to_pylist()} not in ({None}, {ALL})

    @property
    def paths(self) -> list[str] | None:
        """The files of the pictures, absolute; None where they are none of their own."""
        paths: list[str] = self.index.rows["path"].to_pylist()
        return paths if all(Path(path).is_absolute() for path in paths) else None

    @property
    def revision(self) -> int:
        """It grows with each change that the page must follow."""
        return self.live.revision

    def turn_to(self, facts: Facts, index: Index, ground: Ground, spots: bytes) -> None:
        """Go on with the vectors and trees of another generation."""
        self.facts, self.index, self.map = facts, index, spots
        self.live.turn_to(ground)

    def close(self) -> None:
        """Close the log, and end the threads that decode."""
        self.photos.close()
        self.live.edits.close()


def opened(here: Generation, progress: Progress) -> Index:
    """The index of a generation, what there is to say of it told."""
    index, notes = index_file.read(here.index)
    for note in notes:
        progress.note(note)
    return index
