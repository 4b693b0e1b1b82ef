"""The augmentations that a configuration can choose, for any data set."""

from partial_equiv.datasets.augmentation import CropFlip, InceptionCrop
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.pictures import Pictures
from partial_equiv.datasets.recorded import RecordedSplits, record_views, views_refused
from partial_equiv.datasets.view_set import ViewSplits
from partial_equiv.errors import UserError
from partial_equiv.menu import nearest

AUGMENTATIONS = ("none", "resnet", "inception", "recorded")


def augment_training(
    splits: Splits | ViewSplits, augment: str | None, seed: int
) -> Splits | ViewSplits | RecordedSplits:
    """Return the splits with an augmentation on the training images; "recorded" alone changes the others too.

    Args:
        splits: Any data set.
        augment: "none" (or None), "resnet": random crop after padding, and mirror; "inception": random box of the
            picture on disk, and mirror; or "recorded": each image beside two augmentations of it, whose parameters are
            known, in all splits.
        seed: Of the run.

    Raises:
        UserError: an unknown name, a data set for which no augmentation is published, or one of views.
    """
    name = "none" if augment is None else str(augment).lower()
    if name not in AUGMENTATIONS:
        raise UserError(f"augment={augment!r} is not one of: {', '.join(AUGMENTATIONS)}{nearest(name, AUGMENTATIONS)}")
    if name == "none":
        return splits
    info = splits.info
    if isinstance(splits, ViewSplits):
        raise views_refused(info, augment)
    if name == "recorded":
        return record_views(splits, seed)
    if name == "resnet" and info.crop_padding is not None:
        return splits._replace(train=splits.train.augmented(CropFlip(info.crop_padding, seed)))
    if name == "inception" and info.crop_law is not None:
        if not isinstance(splits.train.images, Pictures):
            raise UserError("augment=inception cuts boxes from upright pictures, dataset.law turns them: leave one out")
        return splits._replace(train=splits.train.augmented(InceptionCrop(info.crop_law, info.size, seed)))
    defined = ["none"] + ["resnet"] * (info.crop_padding is not None) + ["inception"] * (info.crop_law is not None)
    choices = " or ".join([*defined, "recorded"])
    raise UserError(f"augment={augment} is not defined for dataset={info.name}: give augment={choices}")
