import { SessionProvider, useAgent } from "@livekit/components-react";
import { useAgentSession } from "agent-lifecycle-client/components-react";
import { useLivekit } from "agent-lifecycle-client/react";
import { TokenSource } from "livekit-client";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

const tokens = TokenSource.endpoint("/api/livekit/token");

function Call() {
  const { state, status, error, connect, disconnect, retry, audio } = useLivekit({ roomName: "support-42" });
  return (
    <>
      <p>{status}</p>
      {error && <p role="alert">{`${error.sentence} ${error.nextStep}`}</p>}
      {error && <button onClick={retry}>Try again</button>}
      {audio.blocked && <button onClick={() => audio.start()}>Play sound</button>}
      {state === "idle" ? <button onClick={connect}>Talk</button> : <button onClick={disconnect}>Leave</button>}
    </>
  );
}

function Agent() {
  return <p>{useAgent().state}</p>;
}

function Session() {
  const session = useAgentSession(tokens, { roomName: "support-42", agentName: "helper" });
  return (
    <SessionProvider session={session}>
      <button onClick={() => session.start()}>{session.lifecycle.status}</button>
      <Agent />
    </SessionProvider>
  );
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <Call />
    <Session />
  </StrictMode>,
);
