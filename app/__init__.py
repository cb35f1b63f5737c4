"""The Qt window: a client of the engine's HTTP interface like any other client."""
