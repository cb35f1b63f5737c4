"""One local process: HTTP service, conversation encoding, generation, placement, backends, session store."""
