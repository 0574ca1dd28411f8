"""Placement, security, volumes and annotations of pods: what upstream refuses, where, and in which words."""

import pytest

from tests.unit.api.validation.objects import container, pod, refused_pod, volume

C, S, V = "spec.containers[0]", "spec.securityContext", "spec.volumes[0]"
HARD, SOFT = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def node(**expression):
    return pod(affinity={"nodeAffinity": {HARD: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}})


def near(**term):
    return pod(affinity={"podAffinity": {HARD: [{"topologyKey": "zone", **term}]}})


def spread(*rules):
    base = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    return pod(topologySpreadConstraints=[{**base, **rule} for rule in rules])


E = f"spec.affinity.nodeAffinity.{HARD}.nodeSelectorTerms[0].matchExpressions[0]"
P = f"spec.affinity.podAffinity.{HARD}[0]"
T = "spec.topologySpreadConstraints[0]"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (node(key="a", operator="In"),
         [f"{E}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"]),
        (node(key="a", operator="Exists", values=["b"]),
         [f"{E}.values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"]),
        (node(key="a", operator="Gt", values=["1", "2"]),
         [f"{E}.values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"]),
        (node(key="a", operator="Is"), [f'{E}.operator: Invalid value: "Is": not a valid selector operator']),
        (pod(affinity={"nodeAffinity": {SOFT: [{"weight": 199, "preference": {"matchExpressions": [
            {"key": "a", "operator": "In", "values": ["any thing"]}]}}]}}),
         [f"spec.affinity.nodeAffinity.{SOFT}[0].weight: Invalid value: 199: must be in the range 1-100"]),
        (pod(affinity={"nodeAffinity": {HARD: {"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}]}}}),
         [f"spec.affinity.nodeAffinity.{HARD}.nodeSelectorTerms[0].matchFields[0].values: Required value: "
          "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"]),
        (near(topologyKey=""), [f"{P}.topologyKey: Required value: can not be empty",
                                f'{P}.topologyKey: Invalid value: "": name part must be non-empty',
                                f'{P}.topologyKey: Invalid value: "": {KEY}']),
        (near(namespaces=["a.b"], labelSelector={}),
         [f'{P}.namespace: Invalid value: "a.b": must not contain dots']),
        (near(matchLabelKeys=["app"]),
         [f"{P}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
        (near(matchLabelKeys=["app"], mismatchLabelKeys=["app"], labelSelector={}),
         [f'{P}.matchLabelKeys[0]: Invalid value: "app": exists in both matchLabelKeys and mismatchLabelKeys']),
        (near(matchLabelKeys=["app"], labelSelector={
            "matchLabels": {"app": "x"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}),
         [f'{P}[0]: Invalid value: "app": exists in both matchLabelKeys and labelSelector']),
        (spread({}, {}), [f'{T}.{{topologyKey, whenUnsatisfiable}}: Duplicate value: "{{zone, DoNotSchedule}}"']),
        (spread({"whenUnsatisfiable": "Whatever"}),
         [f'{T}.whenUnsatisfiable: Unsupported value: "Whatever": '
          'supported values: "DoNotSchedule", "ScheduleAnyway"']),
        (spread({"minDomains": 1, "whenUnsatisfiable": "ScheduleAnyway"}),
         [f"{T}.minDomains: Invalid value: 1: "
          "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"]),
        (spread({"nodeTaintsPolicy": "Ask"}),
         [f'{T}.nodeTaintsPolicy: Unsupported value: "Ask": supported values: "Honor", "Ignore"']),
        (spread({"matchLabelKeys": ["app"]}),
         [f"{T}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
        (pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
         ['spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is \'Exists\'']),
        (pod(tolerations=[{"key": "a", "operator": "Lt", "value": "1"}]),
         ['spec.tolerations[0].operator: Unsupported value: "Lt": '
          'supported values: "Equal", "Exists", "Lt", "Gt"']),
        (pod(schedulingGates=[{"name": "a"}, {"name": "a"}]), ['spec.schedulingGates[1]: Duplicate value: "a"']),
        (pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "_b"]}]), None),
        (pod(imagePullSecrets=[{}]), []),
        (pod(overhead={"cpu": "-1"}),
         ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
        (pod(dnsConfig={"searches": ["_sip.example.com", "."]}), []),
        (pod(dnsConfig={"searches": ["a.b"] * 33}),
         None),
        (pod(hostnameOverride="a.b", setHostnameAsFQDN=True, hostNetwork=True),
         ["spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
          "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"]),
        (pod(resourceClaims=[{"name": "a"}]),
         ['spec.resourceClaims[0]: Invalid value: {"name":"a"}: '
          "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"]),
        (pod(resourceClaims=[{"name": "a", "resourceClaimName": "x"}, {"name": "a", "resourceClaimName": "y"}]),
         ['spec.resourceClaims[1].name: Duplicate value: "a"']),
        (pod(preemptionPolicy="Always"),
         ['spec.preemptionPolicy: Unsupported value: "Always": supported values: "PreemptLowerPriority", "Never"']),
    ],
)  # fmt: skip
def test_placement(obj, expected):
    found = refused_pod(obj)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith(("spec.hostAliases[0].hostnames[1]: ", "spec.dnsConfig.searches"))
    else:
        assert found == expected


def context(**fields):
    return pod(securityContext=fields)


def inside(**fields):
    return container(securityContext=fields)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (context(runAsUser=-1), [f"{S}.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
        (context(supplementalGroups=[-1]),
         [f"{S}.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
        (pod(shareProcessNamespace=True, hostPID=True),
         [f"{S}.shareProcessNamespace: Invalid value: true: "
          "ShareProcessNamespace and HostPID cannot both be enabled"]),
        (context(sysctls=[{"name": "kernel.shmmax", "value": "1"}, {"name": "kernel.shmmax", "value": "1"}]),
         [f'{S}.sysctls[1].name: Duplicate value: "kernel.shmmax"']),
        (pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]}),
         [f'{S}.sysctls[0].name: Invalid value: "net/ipv4/tcp_syncookies": '
          "may not be specified when 'hostNetwork' is true"]),
        (pod(hostIPC=True, securityContext={"sysctls": [{"name": "kernel.sem", "value": "1"}]}),
         [f"{S}.sysctls[0].name: Invalid value: \"kernel.sem\": may not be specified when 'hostIPC' is true"]),
        (context(fsGroupChangePolicy="Never"),
         [f'{S}.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"']),
        (context(seLinuxChangePolicy="Never"),
         [f'{S}.seLinuxChangePolicy: Unsupported value: "Never": supported values: "MountOption", "Recursive"']),
        (context(seccompProfile={"type": "Localhost"}),
         [f"{S}.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]),
        (context(seccompProfile={"type": "Localhost", "localhostProfile": "/a/../b"}),
         [f'{S}.seccompProfile.localhostProfile: Invalid value: "/a/../b": must be a relative path',
          f"{S}.seccompProfile.localhostProfile: Invalid value: \"/a/../b\": must not contain '..'"]),
        (inside(seccompProfile={}),
         [f"{C}.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set"]),
        (inside(appArmorProfile={"type": "Localhost", "localhostProfile": " a"}),
         [f'{C}.securityContext.appArmorProfile.localhostProfile: Invalid value: " a": '
          "must not be padded with whitespace"]),
        (inside(appArmorProfile={"type": "RuntimeDefault", "localhostProfile": "a"}),
         [f'{C}.securityContext.appArmorProfile.localhostProfile: Invalid value: "a": '
          "can only be set when AppArmor type is Localhost"]),
        (inside(procMount="Unmasked"),
         [f'{C}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']),
        (inside(procMount="All"),
         [f'{C}.securityContext.procMount: Unsupported value: "All": supported values: "Default", "Unmasked"']),
        (pod(hostUsers=False, hostNetwork=True, hostPID=True, hostIPC=True),
         ["spec.hostNetwork: Forbidden: when `hostUsers` is false",
          "spec.HostPID: Forbidden: when `hostUsers` is false",
          "spec.HostIPC: Forbidden: when `hostUsers` is false"]),
        (pod(os={}), ["spec.os.name: Required value"]),
        (pod(os={"name": "plan9"}),
         ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"']),
        (pod(os={"name": "linux"}, securityContext={"windowsOptions": {}}),
         [f"{S}.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]),
        (pod(os={"name": "windows"}, hostIPC=True, securityContext={"fsGroup": 1}),
         [f"{S}.fsGroup: Forbidden: cannot be set for a windows pod",
          "spec.hostIPC: Forbidden: cannot be set for a windows pod"]),
        (context(windowsOptions={"hostProcess": True}),
         ["spec.hostNetwork: Invalid value: false: "
          "hostNetwork must be true if pod contains any hostProcess containers"]),
        (context(windowsOptions={"runAsUserName": "a\\b\\c"}),
         [f'{S}.windowsOptions.runAsUserName: Invalid value: "a\\\\b\\\\c": '
          "runAsUserName cannot contain more than one backslash"]),
    ],
)  # fmt: skip
def test_security(obj, expected):
    assert refused_pod(obj) == expected


def projected(*sources):
    return volume(projected={"sources": list(sources)})


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (volume(), []),
        (volume(hostPath={"path": ""}), [f"{V}.hostPath.path: Required value"]),
        (volume(hostPath={"path": "/a", "type": "Pipe"}), None),
        (volume(emptyDir={"sizeLimit": "-1"}),
         [f"{V}.emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"]),
        (volume(nfs={"server": "s"}), [f"{V}.nfs.path: Required value",
                                       f'{V}.nfs.path: Invalid value: "": must be an absolute path']),
        (volume(configMap={"name": "m", "items": [{"key": "k", "path": ".."}]}),
         [f"{V}.configMap.items[0].path: Invalid value: \"..\": must not contain '..'",
          f"{V}.configMap.items[0].path: Invalid value: \"..\": must not start with '..'"]),
        (volume(secret={"secretName": "s", "defaultMode": 0o1000}),
         [f"{V}.secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"]),
        (volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]}),
         [f'{V}.downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: '
          '"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"']),
        (volume(gcePersistentDisk={}), [f"{V}.persistentDisk.pdName: Required value"]),
        (volume(iscsi={"targetPortal": "p", "iqn": "x", "lun": 256}),
         [f'{V}.iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa',
          f"{V}.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive"]),
        (volume(fc={"targetWWNs": ["a"], "wwids": ["b"], "lun": 1}),
         [f'{V}.fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously']),
        (volume(flexVolume={"driver": "d", "options": {"a.k8s.io/x": "y"}}),
         [f'{V}.flexVolume.options[a.k8s.io/x]: Invalid value: "a.k8s.io/x": '
          "kubernetes.io and k8s.io namespaces are reserved"]),
        (volume(emptyDir={}, cephfs={"monitors": ["m"]}, downwardAPI={}),
         [f"{V}.cephFS: Forbidden: may not specify more than 1 volume type",
          f"{V}.downwarAPI: Forbidden: may not specify more than 1 volume type"]),
        (volume(csi={"driver": "a" * 64}), [f"{V}.csi.driver: Too long: may not be more than 63 bytes"]),
        (volume(image={}), [f"{V}.image.reference: Required value"]),
        (volume(ephemeral={"volumeClaimTemplate": {"metadata": {"name": "n"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}),
         [f"{V}.ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"]),
        (pod(volumes=[
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
            {"name": "p", "persistentVolumeClaim": {"claimName": "x-e"}}]),
         ['spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "x-e": '
          "must not reference a PVC that gets created for an ephemeral volume"]),
        (projected({"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]},
                    "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}}),
         [f'{V}.projected: Invalid value: "m": conflicting duplicate paths',
          f"{V}.projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"]),
        (projected({"serviceAccountToken": {"path": "", "expirationSeconds": 1}}),
         [f"{V}.projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: "
          "may not specify a duration less than 10 minutes", f"{V}.projected.path: Required value",
          f"{V}.projected.sources[0].serviceAccountToken: Forbidden: "
          "must not be specified when serviceAccountName is not set"]),
        (projected({"clusterTrustBundle": {"path": "p"}}),
         [f"{V}.projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified"]),
    ],
)  # fmt: skip
def test_volumes(obj, expected):
    found = refused_pod(obj)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith(f'{V}.hostPath.type: Unsupported value: "Pipe": supported values: ')
    else:
        assert found == expected


def mounted(*mounts, **more):
    return pod(
        containers=[{"name": "c", "image": "i", "volumeMounts": list(mounts), **more}],
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "p", "persistentVolumeClaim": {"claimName": "p"}}],
    )


M, D = f"{C}.volumeMounts", f"{C}.volumeDevices"
MOUNT = {"name": "v", "mountPath": "/v"}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (mounted({"mountPath": "/v"}), [f"{M}[0].name: Required value", f'{M}[0].name: Not found: ""']),
        (mounted(MOUNT, MOUNT), [f'{M}[1].mountPath: Invalid value: "/v": must be unique']),
        (mounted({**MOUNT, "subPath": "/a/../b"}),
         [f'{M}.subPath: Invalid value: "/a/../b": must be a relative path',
          f"{M}.subPath: Invalid value: \"/a/../b\": must not contain '..'"]),
        (mounted({**MOUNT, "subPath": "a", "subPathExpr": "b"}),
         [f'{M}[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive']),
        (mounted({**MOUNT, "mountPropagation": "Bidirectional"}),
         [f"{M}.mountPropagation: Forbidden: "
          "Bidirectional mount propagation is available only to privileged containers"]),
        (mounted({**MOUNT, "readOnly": True, "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}),
         [f"{M}.recursiveReadOnly: Forbidden: "
          "may only be specified when mountPropagation is None or not specified"]),
        (mounted({**MOUNT, "recursiveReadOnly": "Enabled"}),
         [f"{M}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
        (mounted({"name": "p", "mountPath": "/v"}, volumeDevices=[{"name": "p", "devicePath": "/d"}]),
         [f'{M}[0].name: Invalid value: "p": must not already exist in volumeDevices',
          f'{D}[0].name: Invalid value: "p": must not already exist in volumeMounts']),
        (mounted(volumeDevices=[{"name": "v", "devicePath": "/a/.."}]),
         [f'{D}[0].name: Invalid value: "v": '
          "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
          f"{D}[0].devicePath: Invalid value: \"/a/..\": can not contain backsteps ('..')"]),
        (mounted(volumeDevices=[{"name": "p", "devicePath": "/d"}, {"name": "p", "devicePath": "/d"}]),
         [f'{D}[1].name: Invalid value: "p": must be unique',
          f'{D}[1].devicePath: Invalid value: "/d": must be unique']),
    ],
)  # fmt: skip
def test_mounts(obj, expected):
    assert refused_pod(obj) == expected


A = "metadata.annotations"
ARMOR = "container.apparmor.security.beta.kubernetes.io/"
COST = "controller.kubernetes.io/pod-deletion-cost"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod({"kubernetes.io/config.mirror": "h"}),
         [f'{A}[kubernetes.io/config.mirror]: Invalid value: "h": '
          "must set spec.nodeName if mirror pod annotation is set"]),
        (pod({COST: "2147483648"}), [f'{A}[{COST}]: Invalid value: "2147483648": must be a 32bit integer']),
        (pod({COST: "+1"}), [f'{A}[{COST}]: Invalid value: "+1": must be a 32bit integer']),
        (pod({COST: "-100"}), []),
        (pod({f"{ARMOR}other": "runtime/default"}),
         [f'{A}[{ARMOR}other]: Invalid value: "other": container not found']),
        (pod({f"{ARMOR}c": "bad"}),
         [f'{A}[{ARMOR}c]: Invalid value: "bad": invalid AppArmor profile name: "bad"']),
        (pod({f"{ARMOR}c": "unconfined"}, securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}),
         [f"{C}.securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match"]),
        (pod({"seccomp.security.alpha.kubernetes.io/pod": "foo"}),
         [f'{A}.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "foo": must be a valid seccomp profile']),
    ],
)  # fmt: skip
def test_annotations(obj, expected):
    assert refused_pod(obj) == expected
