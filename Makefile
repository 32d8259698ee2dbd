# Every target is a line or two of cargo; `make check` and `make test` are exactly what CI runs.
.DEFAULT_GOAL := help
.PHONY: help run demo test check bench fuzz sessions sim golden

help: ## Say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 9

run: ## Start weir with its built-in settings (release build)
	cargo run --release -p weir

demo: ## Feed the page that `make run` serves on http://127.0.0.1:8080/, until Ctrl-C (release build)
	cargo run --release -p weir-load -- demo

test: ## Install what the tests need, then run every suite and print its time
	tests/setup/install.sh
	tests/setup/run.sh

check: ## Format, lints, licences, crate arrows
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --test dependencies

bench: ## Compare CPU time a message with the peer servers, minutes (BENCH=looking, scale, tls, fanout, slow, --quick)
	cargo build --release -p weir -p weir-load
	cargo build --release --manifest-path crates/load/peers/rust/Cargo.toml --target-dir target/peers
	target/release/weir-load bench $(BENCH)

fuzz: ## Fuzz every wire for FUZZ_SECONDS in all (default 1800)
	tests/setup/fuzz.sh $${FUZZ_SECONDS:-1800}

sessions: ## Hold a million sessions (or SESSIONS) in one process: bytes of each, one publication to all
	cargo run --release -p weir-channels --example sessions $(SESSIONS)

sim: ## Run SEEDS simulated worlds (default 2000), or the one of SEED
	WEIR_SEED=$(SEED) WEIR_SEEDS=$(or $(SEEDS),2000) cargo test -p weir-sim --test sim -- --nocapture

golden: ## Write the golden files anew; read the diff before committing it
	UPDATE_GOLDEN=1 cargo test --workspace golden
