"""The HTTP interface: our own resources and the OpenAI dialect."""
