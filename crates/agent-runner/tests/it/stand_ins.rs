//! What stands in for a mentor's model and for a bus that fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use agent_runner::provider::{Answer, AskError, Provider, Question};
use async_trait::async_trait;
use bus::{Message, PublishError};
use model::run::Usage;
use test_kit::Gate;
use tokio::sync::{Semaphore, watch};

use crate::harness::{eventually, within};

/// A model that does as the first word of the prompt says: `wait` (until let go), `fail`, `panic`; else it answers.
pub struct Model {
    gate: Semaphore,
    asked: watch::Sender<Vec<i64>>,
    asking: AtomicUsize,
    asking_most: AtomicUsize,
    /// The last question.
    pub question: std::sync::Mutex<Option<Question>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            gate: Semaphore::new(0),
            asked: watch::Sender::default(),
            asking: AtomicUsize::new(0),
            asking_most: AtomicUsize::new(0),
            question: std::sync::Mutex::default(),
        }
    }
}

impl Model {
    /// Waits until it was asked so often in all; returns by which runs.
    pub async fn asked(&self, times: usize) -> Vec<i64> {
        let mut asked = self.asked.subscribe();
        within("the model is asked", asked.wait_for(|runs| runs.len() >= times)).await.unwrap().clone()
    }

    /// By which runs it was asked until now.
    pub fn asked_until_now(&self) -> Vec<i64> {
        self.asked.borrow().clone()
    }

    /// Lets so many that wait go on.
    pub fn let_go(&self, runs: usize) {
        self.gate.add_permits(runs);
    }

    /// Most runs that asked at one time.
    pub fn asking_most(&self) -> usize {
        self.asking_most.load(Ordering::SeqCst)
    }

    /// Waits until nobody asks any more.
    pub async fn is_left_alone(&self) {
        eventually("nobody asks", || async { self.asking.load(Ordering::SeqCst) == 0 }).await;
    }
}

struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Provider for Model {
    async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let asking = self.asking.fetch_add(1, Ordering::SeqCst) + 1;
        let _asking = Asking(&self.asking);
        self.asking_most.fetch_max(asking, Ordering::SeqCst);
        let (id, prompt) = (question.run.id.0, question.prompt.clone());
        question.log.line("the model thinks");
        *self.question.lock().unwrap() = Some(question);
        self.asked.send_modify(|runs| runs.push(id));
        match prompt.split(' ').next() {
            Some("wait") => self.gate.acquire().await.unwrap().forget(),
            Some("fail") => return Err(AskError("the model is on holiday".into())),
            Some("panic") => panic!("the model is a defect"),
            _ => {}
        }
        let usage = Usage { prompt_tokens: 5, completion_tokens: 7 };
        Ok(Answer { output: format!("answer to {prompt}"), goes_on: false, usage })
    }
}

/// A bus that a test can take away from publishers, and that counts what they publish.
#[derive(Default)]
pub struct Shaky {
    away: AtomicBool,
    link: watch::Sender<bool>,
    /// Messages of each publish that was confirmed.
    pub published: std::sync::Mutex<Vec<usize>>,
}

impl Shaky {
    /// From now on nothing can be published, or all of it can again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// The bus says that its connection was lost, and is back.
    pub fn reconnect(&self) {
        self.link.send_replace(false);
        self.link.send_replace(true);
    }
}

#[async_trait]
impl Gate for Shaky {
    async fn enter(&self, _: &[Message]) -> Result<(), PublishError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PublishError::Unavailable("taken away by a test".into()));
        }
        Ok(())
    }

    fn connected(&self, _: watch::Receiver<bool>) -> watch::Receiver<bool> {
        self.link.subscribe()
    }

    fn confirmed(&self, messages: usize) {
        self.published.lock().unwrap().push(messages);
    }
}
