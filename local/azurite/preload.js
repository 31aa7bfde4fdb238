// Loaded before Azurite's own main (node -r preload.js): accounts made while it runs are known at
// their first request. Azurite reads AZURITE_ACCOUNTS from its own environment once a minute; here
// the variable is reloaded from a file whenever that file was replaced. The package stays as it is.
"use strict";

const fs = require("node:fs");
const AccountDataStore = require("azurite/dist/src/common/AccountDataStore").default;

const file = process.env.KPAX_AZURITE_ACCOUNTS_FILE;
const refresh = AccountDataStore.prototype.refresh;
const getAccount = AccountDataStore.prototype.getAccount;

function version() {
  const { ino, mtimeMs, size } = fs.statSync(file);
  return `${ino}-${mtimeMs}-${size}`;
}

AccountDataStore.prototype.refresh = function () {
  this.fileVersion = version();
  process.env.AZURITE_ACCOUNTS = fs.readFileSync(file, "utf8").trim();
  refresh.call(this);
};

AccountDataStore.prototype.getAccount = function (name) {
  if (this.fileVersion !== version()) {
    this.refresh();
  }
  return getAccount.call(this, name);
};

