'use client';

import { StatsigProvider, useClientBootstrapInit, useExperiment, useFeatureGate } from '@statsig/react-bindings';
import type { ReactNode } from 'react';

import { EXPERIMENT, GATE } from '../lib/names';

const CLIENT_KEY = process.env.NEXT_PUBLIC_STATSIG_CLIENT_KEY;

type Props = { text: string; user: { userID: string; customIDs: { stableID: string } }; children: ReactNode };

/** Statsig's client with the values that the server rendered by. Without a key of yours it keeps to itself. */
export function Statsig({ text, user, children }: Props) {
  const client = useClientBootstrapInit(CLIENT_KEY ?? 'client-none', user, text, {
    loggingEnabled: CLIENT_KEY ? 'browser-only' : 'disabled',
    networkConfig: { preventAllNetworkTraffic: !CLIENT_KEY },
  });
  return <StatsigProvider client={client}>{children}</StatsigProvider>;
}

/** The same flags as Statsig's hooks have them, and where they have them from. */
export function ClientFlags() {
  const experiment = useExperiment(EXPERIMENT);
  const gate = useFeatureGate(GATE);
  return (
    <section aria-labelledby="client-title">
      <h2 id="client-title">The same, by hooks of Statsig</h2>
      <dl>
        <div>
          <dt>Arm</dt>
          <dd>{experiment.groupName ?? 'none'}</dd>
        </div>
        <div>
          <dt>Provider</dt>
          <dd>{experiment.get('provider', 'by default')}</dd>
        </div>
        <div>
          <dt>Model</dt>
          <dd>{experiment.get('model', 'by default')}</dd>
        </div>
        <div>
          <dt>Gate</dt>
          <dd>{gate.value ? 'passed' : 'not passed'}</dd>
        </div>
        <div>
          <dt>Reason</dt>
          <dd>{experiment.details.reason}</dd>
        </div>
      </dl>
    </section>
  );
}
