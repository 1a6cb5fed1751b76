"""What a visitor may type."""

from django import forms
from django.contrib.auth.models import User


class SignUpForm(forms.ModelForm):
    """A name, an address, and whether the request shall fail."""

    fail = forms.BooleanField(
        label="Let the request fail after it has enqueued the mail", required=False
    )

    class Meta:
        model = User
        fields = ["username", "email"]
        help_texts = {"username": ""}

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True

    def clean_email(self) -> str:
        """Refuse an address that has an account, so that each mail has one."""
        email: str = self.cleaned_data["email"]
        if User.objects.filter(email__iexact=email).exists():
            raise forms.ValidationError("There is an account with this address.")
        return email
