"""Both ways and back again without loss."""

from orca.api.conversion import convert

SCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "a", "annotations": {"own": "x"}},
    "spec": {
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
            },
            {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}},
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
    },
    "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
}


def test_autoscalers_round_trip():
    served = convert(SCALER, "autoscaling/v1")
    assert served["apiVersion"] == "autoscaling/v1"
    assert served["spec"]["targetCPUUtilizationPercentage"] == 70
    assert "metrics" not in served["spec"]
    assert convert(served, "autoscaling/v2") == SCALER


def test_events_round_trip():
    event = {"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2}
    served = convert(event, "events.k8s.io/v1")
    assert served["regarding"] == {"name": "p"}
    assert served["note"] == "m"
    assert served["deprecatedCount"] == 2
    assert convert(served, "v1") == event


def test_same_version_is_the_same_object():
    assert convert(SCALER, "autoscaling/v2") is SCALER
