/** The README's examples, one at a time, as the address says: `?show=call&room=...`. */
import { useLivekit } from "agent-lifecycle-client/react";
import { StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { Call } from "./call";
import { Session } from "./session";

/** Where a mount too many would be an agent too many. */
function ByItself({ roomName }: { roomName: string }) {
  const { status } = useLivekit({ roomName, autoConnect: true });
  return <p role="status">{status}</p>;
}

const examples = { call: Call, session: Session, "by-itself": ByItself };
const address = new URLSearchParams(location.search);
const Example = examples[address.get("show") as keyof typeof examples];
let mounts = 0;

function Page() {
  useEffect(() => {
    mounts += 1;
    document.body.dataset.mounts = String(mounts);
  }, []);
  return <Example roomName={address.get("room") ?? "support-42"} />;
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
