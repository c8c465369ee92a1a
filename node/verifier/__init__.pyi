from .audits import serve_audit as serve_audit
from .committee import Committee as Committee
from .process import Verifier as Verifier
from .running import run_verifier as run_verifier
from .service import AuditService as AuditService
from .terms import VerifierTerms as VerifierTerms
