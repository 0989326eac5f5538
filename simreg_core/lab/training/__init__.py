"""One training: `rules` says how each defence trains, `assembly` puts the parts together, `loop` turns.

The names that other rooms use are loaded when they are asked for, since specifications are made from `rules`.
"""

from importlib import import_module

_ROOMS = {
    "artefacts": ("fit_artefact",),
    "assembly": (
        "build_network",
        "build_regularizer",
        "load_data",
        "regularization_images",
        "regularization_pixels",
        "regularization_targets",
    ),
    "augmentation": ("CROP_PADDING", "augment"),
    "loop": ("Run", "TrainingError", "is_recorded", "steps_per_epoch", "train"),
    "replay": ("Replayed",),
    "settings": ("autocast", "repeatable", "settings_of"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_ROOM_OF)


def __getattr__(name: str):
    if name not in _ROOM_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
