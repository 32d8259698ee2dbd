// Holds one resource of the Prometheus operator, as JSON on standard input, against the operator's
// schema for its kind: required keys, types, patterns and closed sets. Unknown keys are the compiler's
// business. Prints what is wrong and ends with 1, or prints nothing.
import { readFileSync } from "node:fs";
import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const resource = JSON.parse(readFileSync(0, "utf8"));
try {
    new kinds[resource.kind](resource).validate();
} catch (error) {
    console.log(`${error}`);
    process.exitCode = 1;
}
