"""Work that outlives window and engine: when it runs, in what process, and what each kind of it does."""
