import { configure } from "@testing-library/dom";

// How long `waitFor` looks before it fails; it looks often, and goes on at once.
configure({ asyncUtilTimeout: 20_000 });
