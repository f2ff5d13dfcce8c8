"""Records keep what belongs to layers by name; this is the order in which a network has them."""

FIRST, LAST = ("stem", "embedding"), ("shortcut", "classifier")


def layer_order(name: str) -> list[tuple[int, int, str]]:
    """A key to sort names like ``stages.0.transforms.10.conv1`` by: numbers count, stem first, classifier last."""
    return [_part_order(part) for part in name.split(".")]


def _part_order(part: str) -> tuple[int, int, str]:
    if part.isdigit():
        return 0, int(part), ""
    return (part in LAST) - (part in FIRST), 0, part
