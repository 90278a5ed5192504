//! How sessions end by order of an operator: in portions, however many they are. Others' orders are carried out in between.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::core::{Core, PER_TURN};
use super::{NotKept, Order, Tracker, Whose};
use crate::audit::Actor;
use crate::clock::boot_now;
use crate::session::{Reason, Session};
use crate::store::{Answer, Unkept};
use crate::types::{Identity, Method, Scope, UserQuery};

/// Which sessions end in one turn of the loop.
pub(super) enum Part {
    /// Those of these clients and connections.
    Of(Vec<Scope>),
    /// Those at these places of the table, of everybody who is meant.
    At(Range<usize>, Meant),
}

/// Who is meant.
#[derive(Clone)]
pub(super) enum Meant {
    /// Everybody.
    All,
    /// Everybody who is called so.
    Called(UserQuery),
    /// This one person,
    Is(Arc<Identity>),
    /// where the session stands by this method.
    By(Arc<Identity>, Method),
}

impl Meant {
    fn means(&self, session: &Session) -> bool {
        let identity = &session.identity;
        match self {
            Self::All => true,
            Self::Called(typed) => identity.is_called(typed),
            Self::Is(who) => identity == who,
            Self::By(who, method) => identity == who && session.method == *method,
        }
    }
}

/// What came of one part.
pub(super) type Ended = Result<Vec<Session>, NotKept>;

impl Tracker {
    /// Ends sessions, by order of `actor`; what ended comes back when its connections are closed and its end is on disk.
    /// Every session that stands when the order is given, and still does when its portion's turn comes, ends. One that
    /// begins meanwhile ends or not.
    ///
    /// # Errors
    /// When the end is not in the database: the sessions have ended all the same, as far as is known.
    pub async fn end(
        &self,
        whose: Whose,
        reason: Reason,
        actor: Option<Actor>,
    ) -> Result<Vec<Session>, NotKept> {
        // The disk is waited for only at the end: one transaction takes many of them there.
        let mut answers = Vec::new();
        let meant = match whose {
            Whose::Client(client) => {
                let (mut scopes, mut after) = (vec![client.into()], None);
                while !scopes.is_empty() {
                    answers.push(self.end_part(Part::Of(scopes), reason, actor.clone()).await);
                    let ask = self.ask(move |view| {
                        view.table.portion_of(client, after, PER_TURN).map(Session::scope).collect()
                    });
                    scopes = ask.await.unwrap_or_default();
                    after = scopes.last().and_then(|scope| scope.connection);
                }
                return collect(answers).await;
            }
            Whose::User(user) => Meant::Called(user),
            Whose::Identity(who) => Meant::Is(who),
            Whose::By(who, method) => Meant::By(who, method),
            Whose::All => Meant::All,
        };
        let Some(places) = self.ask(|view| view.table.places()).await else { return Err(NotKept::closed()) };
        // One part at least: that what was sent before proves nothing is an order by itself.
        for from in (0..places.max(1)).step_by(PER_TURN) {
            let part = Part::At(from..places.min(from + PER_TURN), meant.clone());
            answers.push(self.end_part(part, reason, actor.clone()).await);
            // The next one is given when this one is carried out: what others have ordered meanwhile comes between.
            self.ask(|_| ()).await;
        }
        collect(answers).await
    }

    /// Gives the order, and returns where its answer will come. A loop that is gone closes that.
    async fn end_part(&self, part: Part, reason: Reason, actor: Option<Actor>) -> oneshot::Receiver<Ended> {
        let (reply, answer) = oneshot::channel();
        // Given back unsent, the order closes the channel: that is the answer.
        let _ = self.orders.send(Order::End { part, reason, actor, reply }).await;
        answer
    }
}

/// What came of all parts together.
async fn collect(answers: Vec<oneshot::Receiver<Ended>>) -> Ended {
    let (mut ended, mut unkept): (Vec<Session>, Option<Unkept>) = (Vec::new(), None);
    for answer in answers {
        let failed = match answer.await.unwrap_or_else(|_| Err(NotKept::closed())) {
            Ok(more) => {
                ended.extend(more);
                continue;
            }
            Err(failed) => failed,
        };
        ended.extend(failed.ended);
        // What a restart would bring back is the worse news.
        if unkept.as_ref().is_none_or(|known| known.revoked) {
            unkept = Some(failed.unkept);
        }
    }
    match unkept {
        None => Ok(ended),
        Some(unkept) => Err(NotKept { ended, unkept }),
    }
}

impl NotKept {
    fn closed() -> Self {
        Self { ended: Vec::new(), unkept: Unkept::closed() }
    }
}

impl Core {
    pub(super) fn end(
        &mut self,
        part: Part,
        reason: Reason,
        actor: Option<&Actor>,
        reply: oneshot::Sender<Ended>,
    ) {
        let now = boot_now();
        let scopes = match part {
            Part::Of(scopes) => scopes,
            Part::At(places, meant) => {
                if let Meant::Is(who) | Meant::By(who, _) = &meant {
                    self.revoked.note(Arc::clone(who), now);
                }
                let meant = |session: &&Session| meant.means(session);
                self.table.portion(places.start, places.len()).filter(meant).map(Session::scope).collect()
            }
        };
        let ended =
            scopes.into_iter().filter_map(|scope| self.table.end(scope, reason, now, &mut self.effects));
        let ended: Vec<Session> = ended.collect();
        let answer: Answer = Box::new(move |kept| {
            // Whoever asked may have gone; what ended has ended.
            let _ = reply.send(match kept {
                Ok(()) => Ok(ended),
                Err(unkept) => Err(NotKept { ended, unkept }),
            });
        });
        if self.effects.is_empty() {
            // What ended by an earlier order may not be on disk yet: nobody is told before that they are logged out.
            self.journal.submit(Vec::new(), Some(answer));
        } else {
            self.carry_out_by(actor, Vec::new(), Some(answer));
        }
    }
}
