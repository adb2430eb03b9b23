// Evaluates requests with @cloud-copilot/iam-simulate, which is not part of Rolecall: JSON on standard input and output.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const { runSimulation } = createRequire(join(process.argv[2], "package.json"))("@cloud-copilot/iam-simulate");
const { documents, requests } = JSON.parse(readFileSync(0, "utf8"));
const byName = (names) => names.map((name) => ({ name, policy: documents[name] }));

const decisions = [];
for (const { identity, resource_policy: trust, ...request } of requests) {
  const simulation = {
    request,
    identityPolicies: byName(identity),
    resourcePolicy: trust === null ? undefined : documents[trust],
    serviceControlPolicies: [{ orgIdentifier: "r-root", policies: byName(["FullAWSAccess"]) }],
    resourceControlPolicies: [],
  };
  const result = await runSimulation(simulation, {});
  decisions.push(result.resultType === "error" ? JSON.stringify(result.errors) : result.overallResult);
}
console.log(JSON.stringify(decisions));
