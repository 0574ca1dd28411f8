"""Encryption at rest: what etcd holds instead of an object's JSON, by an ``EncryptionConfiguration`` file.

Knows bytes, keys and storage prefixes; never what an object means. Objects are plain again before anybody else in the
server sees them. The format in etcd is upstream's (``k8s:enc:<provider>:v1:<key name>:`` and what the provider makes).
"""

from orca.store.encryption.config import ConfigInvalid, parse_config
from orca.store.encryption.reload import ConfigFile, load_config
from orca.store.encryption.sealed import SealedEtcd
from orca.store.encryption.transform import Transforms

__all__ = ["ConfigFile", "ConfigInvalid", "SealedEtcd", "Transforms", "load_config", "parse_config"]
