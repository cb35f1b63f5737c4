"""The engines behind one contract (`base`): llama.cpp, and a fixed script for tests."""
