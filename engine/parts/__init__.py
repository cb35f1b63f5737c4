"""Optional parts: packages that the program can use and does not bring, installed into the data folder and removed."""
