"""The frozen dataclasses that pass between the store and its users."""
