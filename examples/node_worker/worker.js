// A worker in Node, without the helper: its sessions close when their user leaves.
import { ServerOptions, cli, defineAgent, llm, voice } from '@livekit/agents';
import { fileURLToPath } from 'node:url';

const MAX_JOBS = Number(process.env.MAX_JOBS ?? 10);
/** From this load on LiveKit gives a worker no job, whatever the worker's own threshold is. */
const FULL = 0.7;

/** In place of a model: counts the turns of its conversation. With a real one, see README.md. */
class CountingLLM extends llm.LLM {
  label() {
    return 'counting';
  }

  chat({ chatCtx, toolCtx, connOptions }) {
    return new CountingStream(this, { chatCtx, toolCtx, connOptions });
  }
}

class CountingStream extends llm.LLMStream {
  async run() {
    const turns = this.chatCtx.items.filter((item) => item.type === 'message' && item.role === 'user');
    const content = `turn ${turns.length}: ${turns.at(-1)?.textContent ?? ''}`;
    this.queue.put({ id: `turn-${turns.length}`, delta: { role: 'assistant', content } });
  }
}

export default defineAgent({
  entry: async (ctx) => {
    await ctx.connect();
    const session = new voice.AgentSession({ llm: new CountingLLM() });
    await session.start({
      agent: new voice.Agent({ instructions: 'Repeat what is said.' }),
      room: ctx.room,
      // Text alone, since there is neither speech to text nor text to speech.
      inputOptions: { audioEnabled: false },
      outputOptions: { audioEnabled: false },
    });
  },
});

// Each job's process imports this file for the agent above, and must not start a worker.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  cli.runApp(
    new ServerOptions({
      agent: fileURLToPath(import.meta.url),
      agentName: process.env.AGENT_NAME ?? 'node-agent',
      numIdleProcesses: 1,
      // By its jobs: the load of the processors, the default, depends on what else the machine does.
      loadFunc: async (worker) => (FULL * worker.activeJobs.length) / MAX_JOBS,
      loadThreshold: FULL,
      port: Number(process.env.PORT ?? 8081),
    }),
  );
}
