"""The widgets: the only modules of the program that import QtWidgets."""
