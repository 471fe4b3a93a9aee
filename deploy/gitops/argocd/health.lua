-- Health of a GitProviderConnection, ConnectionGrant or RepoBinding for Argo CD, derived from its conditions. It differs from kstatus in one
-- case: a suspended object is Suspended. An object that only observes is Healthy, with its plan in the message.
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function is(kind, status)
  return conditions[kind] ~= nil and conditions[kind].status == status
end

local ready = conditions.Ready
if ready == nil then
  return { status = "Progressing", message = "Forgebind has not processed the object yet" }
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Forgebind has not processed the current spec yet" }
end
if ready.status == "False" and ready.reason == "Suspended" then
  return { status = "Suspended", message = ready.message }
end
if is("Stalled", "True") then
  return { status = "Degraded", message = conditions.Stalled.reason .. ": " .. conditions.Stalled.message }
end
if is("Reconciling", "True") or ready.status ~= "True" then
  return { status = "Progressing", message = ready.reason .. ": " .. ready.message }
end

-- Healthy, but with warnings.
local notes = {}
for _, kind in ipairs({ "CredentialExpiring", "Delivering", "Receiving" }) do
  local bad = kind == "CredentialExpiring" and "True" or "False"
  if is(kind, bad) then
    table.insert(notes, conditions[kind].reason .. ": " .. conditions[kind].message)
  end
end
if #notes > 0 then
  return { status = "Healthy", message = table.concat(notes, "; ") }
end
return { status = "Healthy", message = ready.message }
