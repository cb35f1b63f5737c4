"""Who besides Seamount's own window uses the engine: keys, what runs for whom, the socket for the network."""
