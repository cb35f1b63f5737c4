"""The DeepSeek-V4 network itself, in torch: configuration, weights, cache, layers, drafts."""
