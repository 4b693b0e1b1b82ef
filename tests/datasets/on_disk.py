"""Images that are fetched rather than held."""


class OnDisk:
    """A source that is no tensor, so that reading processes are used for it."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, positions):
        return self.images[positions]
