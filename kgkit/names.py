"""What a node goes by that is an item and an entity at once: which part of its names is whose."""

from __future__ import annotations

from typing import NamedTuple, Self

COLUMNS = ("name", "entity_name", "name_of")


class Names(NamedTuple):
    """The names of an entity's node, as they are stored; a stub has none but its title, which is its `name`.

    `name` alone does not say whose it is, so `name_of` does: "item" where it is the item's title, "both" where it is
    the title and the entity's own name alike, null where it is the entity's own. Graphs that an earlier kgkit wrote
    have no `name_of`: there a name is the entity's own, unless `entity_name` stands beside it.
    """

    name: str | None = None
    entity_name: str | None = None
    name_of: str | None = None

    @classmethod
    def of(cls, title: str | None, own: str | None) -> Self:
        """The names of an entity that is an item: people see the title, where there is one."""
        if title is None:
            return cls(own)
        if title == own:
            return cls(title, None, "both")
        return cls(title, own, "item")

    @property
    def title(self) -> str | None:
        """The item's."""
        return None if self.entity_name is None and self.name_of is None else self.name

    @property
    def own(self) -> str | None:
        """The entity's."""
        if self.name_of == "both":
            return self.name
        return self.entity_name if self.name_of == "item" or self.entity_name is not None else self.name
