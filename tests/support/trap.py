"""An object that makes a folder when it is unpickled, for tests that nothing is unpickled."""

import os


class Trap:
    """Springs as `os.mkdir("sprung")` in the working folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)
