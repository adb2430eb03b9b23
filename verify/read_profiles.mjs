// Prints the account that each profile of the AWS config leads to, by the AWS SDK for JavaScript, which is not part of Rolecall.
import { createRequire } from "node:module";
import { join } from "node:path";

const [directory, ...profiles] = process.argv.slice(2);
const { GetCallerIdentityCommand, STSClient } = createRequire(join(directory, "package.json"))("@aws-sdk/client-sts");

const accounts = {};
for (const profile of profiles) {
  accounts[profile] = (await new STSClient({ profile }).send(new GetCallerIdentityCommand())).Account;
}
console.log(JSON.stringify(accounts));
