//! Which node of a server to connect to (SPEC 8.11): the first address, the one of the last welcome, or where redirects lead.

use proto_spec::limits::REDIRECTS_MAX;

/// `address` is the first one, or one that redirects have led to.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    first: String,
    address: String,
    /// Redirects in a row, without a welcome between, that have led there. At most [`REDIRECTS_MAX`].
    redirects: u64,
    /// The newest map that one of them was by.
    map_version: u64,
    /// It goes where they say.
    follows: bool,
}

/// A redirect leads in a circle: the nodes do not agree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle;

impl Nodes {
    pub(crate) fn new(first: String, follows: bool) -> Self {
        Self { address: first.clone(), first, redirects: 0, map_version: 0, follows }
    }

    /// Whether redirects are followed: a server sends none to who does not say so.
    pub(crate) const fn follows(&self) -> bool {
        self.follows
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where that is, if it is not the first address.
    pub(crate) fn elsewhere(&self) -> Option<&str> {
        (self.address != self.first).then_some(&self.address)
    }

    /// What the hello says of how it came there.
    pub(crate) const fn hops(&self) -> u64 {
        if self.follows { 1 + self.redirects } else { 0 }
    }

    /// There was a welcome: what follows is not of the row that led here.
    pub(crate) fn welcome(&mut self) {
        self.redirects = 0;
        self.map_version = 0;
    }

    /// The next connection goes to where a redirect leads.
    ///
    /// # Errors
    /// It is not followed.
    pub(crate) fn follow(&mut self, address: String, map_version: u64) -> Result<(), Circle> {
        if self.redirects >= REDIRECTS_MAX || map_version < self.map_version {
            return Err(Circle);
        }
        self.redirects += 1;
        self.map_version = map_version;
        self.address = address;
        Ok(())
    }

    /// The next connection goes to the first address.
    pub(crate) fn begin_again(&mut self) {
        *self = Self::new(std::mem::take(&mut self.first), self.follows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nodes: &Nodes) -> (&str, u64) {
        (nodes.address(), nodes.hops())
    }

    #[test]
    fn hops_count_redirects_since_the_last_welcome() {
        let mut nodes = Nodes::new("a:1".into(), true);
        assert_eq!(at(&nodes), ("a:1", 1));
        nodes.follow("b:1".into(), 7).expect("the first one");
        nodes.follow("c:1".into(), 7).expect("by the same map");
        assert_eq!((at(&nodes), nodes.elsewhere()), (("c:1", 3), Some("c:1")));
        nodes.welcome();
        assert_eq!(at(&nodes), ("c:1", 1));
        nodes.follow("a:1".into(), 3).expect("what was before the welcome does not count");
        assert_eq!((at(&nodes), nodes.elsewhere()), (("a:1", 2), None));
    }

    #[test]
    fn more_redirects_in_a_row_than_the_limit_are_not_followed() {
        let mut nodes = Nodes::new("a:1".into(), true);
        for n in 0..REDIRECTS_MAX {
            assert_eq!(nodes.follow(format!("n{n}:1"), 0), Ok(()));
        }
        assert_eq!(nodes.follow("one too many:1".into(), 9), Err(Circle));
        nodes.begin_again();
        assert_eq!(at(&nodes), ("a:1", 1));
        assert_eq!(nodes.follow("b:1".into(), 0), Ok(()));
    }

    #[test]
    fn a_node_that_knows_less_than_the_one_before_is_not_followed() {
        let mut nodes = Nodes::new("a:1".into(), true);
        nodes.follow("b:1".into(), 7).expect("the first one");
        assert_eq!(nodes.follow("a:1".into(), 6), Err(Circle));
        assert_eq!(at(&nodes), ("b:1", 2));
        assert_eq!(nodes.follow("c:1".into(), 8), Ok(()));
    }
}
