import { readFlags } from '../lib/flags';
import { Chat } from './chat';
import { Completion } from './completion';
import { ClientFlags, Statsig } from './statsig';

export default async function Page() {
  const { text, user, experiment, gate, parameters } = await readFlags();
  return (
    <>
      <header>
        <h1>Next.js over the functions</h1>
      </header>
      <main>
        <Chat />
        <aside>
          <section aria-labelledby="server-title">
            <h2 id="server-title">Flags, by a Server Component</h2>
            <dl>
              <div>
                <dt>Arm</dt>
                <dd>{experiment?.group_name ?? 'none'}</dd>
              </div>
              <div>
                <dt>Provider</dt>
                <dd>{experiment?.value.provider ?? 'by default'}</dd>
              </div>
              <div>
                <dt>Model</dt>
                <dd>{experiment?.value.model ?? 'by default'}</dd>
              </div>
              <div>
                <dt>Gate</dt>
                <dd>{gate ? 'passed' : 'not passed'}</dd>
              </div>
              <div>
                <dt>Temperature</dt>
                <dd>{parameters.temperature ?? 'unset'}</dd>
              </div>
            </dl>
          </section>
          <Statsig text={text} user={user}>
            <ClientFlags />
          </Statsig>
          <Completion />
        </aside>
      </main>
    </>
  );
}
