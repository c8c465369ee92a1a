#!/usr/bin/env node
// Stands in for the native Solidity compiler: py-solc-x and ape-solidity call this, and npm's solc does the work.
// Answers --version, and compiles the standard JSON on stdin. Imports are looked up below --base-path, below this
// folder's node_modules, and as they are; other options are ignored.
"use strict";
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const options = process.argv.slice(2);

if (options.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
  process.exit(0);
}
if (!options.includes("--standard-json")) {
  console.error("solc.js only answers --version and --standard-json");
  process.exit(1);
}

const base = options.includes("--base-path") ? options[options.indexOf("--base-path") + 1] : ".";
const roots = [base, path.join(__dirname, "node_modules"), ""];

function readImport(name) {
  const found = roots.map((root) => path.join(root, name)).find((file) => fs.existsSync(file));
  return found ? { contents: fs.readFileSync(found, "utf8") } : { error: `${name} not found in ${roots}` };
}

const output = solc.compile(fs.readFileSync(0, "utf8"), { import: readImport });
process.stdout.write(output);
