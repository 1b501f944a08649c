-- Health of SLMDeployment and SLMProfile for Argo CD, from the conditions that kstatus reads.
local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "not seen by the operator yet" }
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen the newest spec yet" }
end
if obj.spec ~= nil and obj.spec.paused == true then
  return { status = "Suspended", message = "spec.paused is set" }
end
local ready = nil
for _, condition in ipairs(status.conditions) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.message }
  end
  if condition.type == "Ready" then
    ready = condition
  end
end
if ready == nil then
  return { status = "Progressing", message = "not decided yet" }
end
if ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end
return { status = "Progressing", message = ready.message }
