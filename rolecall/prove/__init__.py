"""The auditor's evidence: what AWS answers the readers, account by account."""
