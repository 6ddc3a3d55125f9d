//! The bus over RabbitMQ: held to the contract, and to what only it promises. Needs a broker: run it with `make test`,
//! or with `deploy/local/services.sh run cargo test -p bus --test rabbitmq`.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached, and its modules read better so")]

#[cfg(test)]
#[path = "../it/contract/mod.rs"]
mod contract;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod installation;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod rates;

#[cfg(test)]
mod suite {
    use crate::contract::contract_suite;
    use crate::installation::RabbitMqInstallation;

    contract_suite!(RabbitMqInstallation);
}
