import { english } from "agent-lifecycle-client";

// All that this page takes of the package: sentences.
document.body.append(english.problems["no-agent"].sentence);
