/** A frontend built on the session hooks of LiveKit's React components, as its starter apps are. */
import {
  RoomAudioRenderer,
  SessionProvider,
  useAgent,
  useSession,
  useSessionContext,
  useSessionMessages,
} from "@livekit/components-react";
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { agentName, tokenSource } from "./source";

function App() {
  const session = useSession(tokenSource, { agentName });
  return (
    <SessionProvider session={session}>
      <Call />
      <RoomAudioRenderer />
    </SessionProvider>
  );
}

function Call() {
  const session = useSessionContext();
  const { state } = useAgent();
  const { messages, send } = useSessionMessages();
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const { end } = session;
  useEffect(() => () => void end(), [end]);

  const start = () =>
    session.start({ tracks: { microphone: { enabled: true } } }).catch((problem: unknown) => setError(String(problem)));

  return (
    <>
      <button type="button" id="start" onClick={() => void start()}>
        Start call
      </button>
      <p>
        I am <b id="identity">{session.isConnected && session.room.localParticipant.identity}</b> in{" "}
        <b id="room">{session.isConnected && session.room.name}</b>, the agent is <b id="agent">{state}</b>
      </p>
      <p role="alert" id="error">
        {error}
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send(text);
        }}
      >
        <label>
          Message <input value={text} onChange={(event) => setText(event.target.value)} />
        </label>
      </form>
      <ul id="answers">
        {messages.map((message) => (
          <li key={message.id}>{message.type === "agentTranscript" && message.message}</li>
        ))}
      </ul>
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
