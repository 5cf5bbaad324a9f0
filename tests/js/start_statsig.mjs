// Starts Statsig's browser client from what /api/flags answers, as a page does, and says what it then knows and why.

import { StatsigClient } from '@statsig/js-client';

let clients = 0;

export async function startStatsig({ url, headers = {}, experiment, gate }) {
  const text = await (await fetch(url, { headers })).text();
  const values = JSON.parse(text);
  const client = new StatsigClient(`client-key-${++clients}`, values.user, {
    loggingEnabled: 'disabled',
    networkConfig: { preventAllNetworkTraffic: true },
  });
  client.dataAdapter.setData(text);
  client.initializeSync({ disableBackgroundCacheRefresh: true });
  const found = client.getExperiment(experiment);
  const passed = client.getFeatureGate(gate);
  const seen = {
    experiment: { value: found.value, rule: found.ruleID, group: found.groupName, reason: found.details.reason },
    gate: { value: passed.value, rule: passed.ruleID, reason: passed.details.reason },
    unknown: client.getFeatureGate('no_such_gate').details.reason,
    stableID: client.getContext().stableID,
    parameters: values.parameters,
  };
  await client.shutdown();
  return seen;
}
