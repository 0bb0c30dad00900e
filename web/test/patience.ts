import { configure } from "@testing-library/dom";

// How long `waitFor` polls before it fails; it polls often, and continues at once.
configure({ asyncUtilTimeout: 20_000 });
