# Keeps /data/targets.json: the pods of operator and engines, and what stands before these, for Prometheus's file discovery.
account=/var/run/secrets/kubernetes.io/serviceaccount
labels='app.kubernetes.io%2Fname%20in%20(slm-operator,slm-engine,front)'
while sleep 1; do
  curl --silent --show-error --fail --cacert $account/ca.crt --header "Authorization: Bearer $(cat $account/token)" \
    "https://kubernetes.default/api/v1/pods?labelSelector=$labels" | jq '[
      .items[]
      | select(.status.podIP and .status.phase == "Running")
      | first(.spec.containers[].ports[]? | select(.name == "http" or .name == "metrics")) as $port
      | {
          targets: ["\(.status.podIP):\($port.containerPort)"],
          labels: {job: .metadata.labels["app.kubernetes.io/name"], namespace: .metadata.namespace, pod: .metadata.name}
        }
    ]' > /data/targets.new && mv /data/targets.new /data/targets.json
done
