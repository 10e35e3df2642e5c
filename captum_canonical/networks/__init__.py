"""Networks by name: factories, files and their settings."""

from captum_canonical.networks.load import LoadedNetwork, load_network
from captum_canonical.networks.settings import NetworkSettings

__all__ = ["LoadedNetwork", "NetworkSettings", "load_network"]
