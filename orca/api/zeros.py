"""Which false, 0 and "" are the same as nothing said: upstream does not encode them.

Go's types of these fields are no pointers and leave zero out (``omitempty`` in ``k8s.io/api``'s ``types.go``), which
the published schema does not tell. So ``tty: false`` of a manifest is not in the object; a client with Go's types that
writes back what it read, or rolls a workload back to what a ReplicaSet holds, changes nothing by leaving it out.
Listed is what people write and others compare: pods and their volumes, what has templates of them, Services, Nodes.
"""

from __future__ import annotations

_CONTAINER = "image imagePullPolicy stdin stdinOnce terminationMessagePath terminationMessagePolicy tty workingDir"
_SCALE_IO = "fsType protectionDomain readOnly sslEnabled storageMode storagePool volumeName"
_RBD = "fsType keyring pool readOnly user"
_ISCSI = "chapAuthDiscovery chapAuthSession fsType iscsiInterface readOnly"

OMITTED: dict[str, frozenset[str]] = {
    definition: frozenset(fields.split())
    for definition, fields in {
        "AWSElasticBlockStoreVolumeSource": "fsType partition readOnly",
        "AzureFilePersistentVolumeSource": "readOnly",
        "AzureFileVolumeSource": "readOnly",
        "CSIPersistentVolumeSource": "fsType readOnly",
        "CephFSPersistentVolumeSource": "path readOnly secretFile user",
        "CephFSVolumeSource": "path readOnly secretFile user",
        "CinderPersistentVolumeSource": "fsType readOnly",
        "CinderVolumeSource": "fsType readOnly",
        "Container": _CONTAINER,
        "ContainerPort": "hostIP hostPort name protocol",
        "CronJobSpec": "concurrencyPolicy",
        "DaemonSetSpec": "minReadySeconds",
        "DaemonSetUpdateStrategy": "type",
        "DeploymentSpec": "minReadySeconds paused",
        "DeploymentStrategy": "type",
        "EmptyDirVolumeSource": "medium",
        "EnvFromSource": "prefix",
        "EnvVar": "value",
        "EphemeralContainer": f"{_CONTAINER} targetContainerName",
        "FCVolumeSource": "fsType readOnly",
        "FlexPersistentVolumeSource": "fsType readOnly",
        "FlexVolumeSource": "fsType readOnly",
        "GCEPersistentDiskVolumeSource": "fsType partition readOnly",
        "GlusterfsPersistentVolumeSource": "readOnly",
        "GlusterfsVolumeSource": "readOnly",
        "HTTPGetAction": "host path scheme",
        "ISCSIPersistentVolumeSource": _ISCSI,
        "ISCSIVolumeSource": _ISCSI,
        "NFSVolumeSource": "readOnly",
        "NodeSpec": "podCIDR providerID unschedulable",
        "ObjectFieldSelector": "apiVersion",
        "PersistentVolumeClaimSpec": "volumeName",
        "PersistentVolumeClaimVolumeSource": "readOnly",
        "PersistentVolumeSpec": "persistentVolumeReclaimPolicy storageClassName",
        "PodSpec": "dnsPolicy hostIPC hostNetwork hostPID hostname nodeName priorityClassName restartPolicy "
        "schedulerName serviceAccount serviceAccountName subdomain",
        "PortworxVolumeSource": "fsType readOnly",
        "PriorityClass": "description globalDefault",
        "Probe": "failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds",
        "QuobyteVolumeSource": "group readOnly tenant user",
        "RBDPersistentVolumeSource": _RBD,
        "RBDVolumeSource": _RBD,
        "ReplicaSetSpec": "minReadySeconds",
        "ReplicationControllerSpec": "minReadySeconds",
        "ResourceFieldSelector": "containerName",
        "SELinuxOptions": "level role type user",
        "ScaleIOPersistentVolumeSource": _SCALE_IO,
        "ScaleIOVolumeSource": _SCALE_IO,
        "SecretVolumeSource": "secretName",
        "ServiceAccountTokenProjection": "audience",
        "ServicePort": "name nodePort protocol",
        "ServiceSpec": "clusterIP externalName externalTrafficPolicy healthCheckNodePort loadBalancerIP "
        "publishNotReadyAddresses sessionAffinity type",
        "StatefulSetSpec": "minReadySeconds podManagementPolicy",
        "StatefulSetUpdateStrategy": "type",
        "StorageOSPersistentVolumeSource": "fsType readOnly volumeName volumeNamespace",
        "StorageOSVolumeSource": "fsType readOnly volumeName volumeNamespace",
        "TCPSocketAction": "host",
        "Taint": "value",
        "Toleration": "effect key operator value",
        "VolumeMount": "readOnly subPath subPathExpr",
        "VsphereVirtualDiskVolumeSource": "fsType storagePolicyID storagePolicyName",
    }.items()
}
"""Fields by their definition's name, its package left out."""

_NAMES = frozenset(field.encode() for fields in OMITTED.values() for field in fields)
_VALUES = (b'":false', b'":0', b'":""')


def may_hold(raw: bytes) -> bool:
    """Whether encoded ``raw`` has a zero under one of the names; a walk finds out whether it is that field."""
    for value in _VALUES:
        at = raw.find(value)
        while at >= 0:
            if raw[raw.rfind(b'"', 0, at) + 1 : at] in _NAMES:
                return True
            at = raw.find(value, at + len(value))
    return False
