"""Downloads: what a repository of the hub holds, and bringing it onto the disk, whole and checked."""
