import { render } from "preact";
import { App } from "./app";
import { follow as followEngine } from "./state/engine";
import { follow as followMachine } from "./state/machine";
import { follow as followSight } from "./state/sight";
import "./style/base.css";
import "./style/parts.css";
import "./style/pages.css";

followSight();
void followMachine();
void followEngine();
render(<App />, document.getElementById("app")!);
